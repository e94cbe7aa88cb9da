"""A sharded checkpoint: a folder with a part of each rank.

``.metadata`` is written last: a folder without it is no checkpoint. Standard
library only.
"""
from typing import Tuple

#: The oldest torch whose planner spreads what all ranks have alike, and whose
#: metadata that of today reads.
MIN_TORCH = '2.3'
#: End of the folder's name.
SUFFIX = '.dcp'
#: What is where: torch's ``Metadata``, pickled.
METADATA_NAME = '.metadata'
#: Sizes and digests of all files.
MANIFEST_NAME = 'manifest.json'
#: Of its format; another one is refused.
MANIFEST_VERSION = 1
#: All that is no tensor of the model or of its optimizers. No ``.pth``: by
#: itself it is no checkpoint.
REST_NAME = 'rest.zip'
#: There while the ranks write, with the token of their save.
WRITING_NAME = 'writing'
#: What leads to the newest.
LATEST_FOLDER = 'latest.dcp'
#: Begin of the names of the model's tensors, and of the optimizers'.
MODEL, OPTIMIZER = 'state_dict.', 'optimizer.'


def is_folder(name: str) -> bool:
    """Whether a name is that of a sharded checkpoint."""
    return name.rstrip('/').endswith(SUFFIX)


def is_checkpoint(name: str) -> bool:
    """Whether a name is that of a checkpoint: a file or a folder."""
    return name.endswith('.pth') or is_folder(name)


def optimizer_prefix(name: str = '') -> str:
    """Return the begin of the names of an optimizer's tensors.

    Args:
        name (str): Of one of several. Default: '', which means the only one.
    """
    return f'{OPTIMIZER}{name}.state.' if name else f'{OPTIMIZER}state.'


def split_state(name: str, prefix: str) -> Tuple[str, str]:
    """Return the parameter and the key that a tensor's name tells.

    Args:
        name (str): ``'optimizer.state.conv.weight.exp_avg'``.
        prefix (str): Of :func:`optimizer_prefix`.
    """
    parameter, _, key = name[len(prefix):].rpartition('.')
    return parameter, key


def part_name(rank: int) -> str:
    """Return the name of the file with the tensors that a rank has written.
    """
    return f'__{rank}_0.distcp'


def folder_name(name: str) -> str:
    """Return the name of the folder in the place of a file."""
    return name[:-len('.pth')] + SUFFIX
