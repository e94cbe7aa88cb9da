"""The calls of Weights & Biases' client that mmcv and mmsegmentation make.

Like the real one, it takes a copy of a file when the file is added to an
artifact; one that is not there is an error.
"""
import json
import os
import shutil
import types

#: Directory that takes the copies and ``artifacts.jsonl``.
DIRECTORY = 'WANDB_STUB_DIR'

run = types.SimpleNamespace(id='stub')


class Artifact:

    def __init__(self, name, type, metadata=None):
        self.name = name
        self.metadata = metadata
        self.files = []

    def add_file(self, path):
        if not os.path.isfile(path):
            raise ValueError(f'Path is not a file: {path!r}')
        shutil.copy(path, os.environ[DIRECTORY])
        self.files.append(os.path.basename(path))


def init(**kwargs):
    os.makedirs(os.environ[DIRECTORY], exist_ok=True)


def log(values, step=None, commit=True):
    pass


def log_artifact(artifact, aliases=()):
    path = os.path.join(os.environ[DIRECTORY], 'artifacts.jsonl')
    with open(path, 'a') as file:
        record = dict(
            files=artifact.files,
            aliases=list(aliases),
            metadata=artifact.metadata)
        file.write(json.dumps(record, default=float) + '\n')


def finish():
    pass
