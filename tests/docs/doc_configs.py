"""Loads a fragment of a config, builds what it says, and trains where cheap.

    python doc_configs.py TEXT PATH    # in a process of its own
"""
import ast
import sys
from pathlib import Path

from mmcv import Config
from mmcv.runner import HOOKS
from mmcv.utils import build_from_cfg

BASE = Path(__file__).parent / 'small_config.py'
WORK_DIR = 'work_dirs/fragment'
#: What the tools of mmcv 1.x repos read, of that what a page may set.
KNOWN = {
    'checkpoint_config', 'custom_hooks', 'custom_imports', 'data',
    'evaluation', 'load_from', 'log_config', 'lr_config', 'model', 'optimizer',
    'optimizer_config', 'resume_from', 'runner', 'workflow', '_base_'
}
#: Where a toy can be trained to without an account; the rest is built.
NEAR = ('file://', 'memory://')
BUCKET = 's3://checkpoints'


def is_config(text):
    """Whether a Python block only assigns, as a config of mmcv does."""
    statements = ast.parse(text).body
    return bool(statements) and all(
        isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name)
        for one in statements)


def check(text, path, reaches_s3=False):
    """Load a fragment and build the runner and the hooks of it.

    Args:
        text (str): The fragment. Without a ``_base_`` it gets a small one.
        path (Path): Where it is written to; in the working directory.
        reaches_s3 (bool): Whether a server of buckets is at hand.
    """
    names = {one.targets[0].id for one in ast.parse(text).body}
    if not names <= KNOWN:
        raise AssertionError(
            f'no tool reads {", ".join(sorted(names - KNOWN))}')
    path.parent.mkdir(parents=True, exist_ok=True)
    own = '' if '_base_' in names else f'_base_ = [{str(BASE)!r}]\n'
    path.write_text(own + text)
    config = Config.fromfile(str(path))
    hooks = config.get('custom_hooks', [])
    if all(is_near(hook, reaches_s3) for hook in hooks):
        train(config)
        return
    for hook in hooks:
        build_from_cfg(hook, HOOKS)


def is_near(hook, reaches_s3):
    """Whether checkpoints of a hook go to where they can go here."""
    if hook.get('file_client_args'):
        return False
    urls = [hook.get('out_dir'), (hook.get('mirror') or {}).get('url')]
    return all(url is None or '://' not in url or url.startswith(NEAR) or (
        reaches_s3 and url.startswith(BUCKET)) for url in urls)


def train(config):
    """Two iterations, or an epoch, of a toy with what the config says."""
    # it imports the plugin, which a config may import behind others
    from toy import make_loader, make_runner
    runner = dict(config.get('runner') or dict(type='IterBasedRunnerAmp'))
    by_epoch = 'max_epochs' in runner
    runner.update(dict(max_epochs=1) if by_epoch else dict(max_iters=2))
    evaluation = config.get('evaluation')
    make_runner(
        WORK_DIR,
        runner=runner,
        hooks=config.get('custom_hooks', []),
        checkpoint_config=config.get('checkpoint_config'),
        evaluation=evaluation
        and dict(evaluation, scores=[.5], by_epoch=by_epoch),
        optimizer_config=config.get('optimizer_config'),
        lr_config=config.get('lr_config')).run([make_loader()], [('train', 1)])


if __name__ == '__main__':
    check(sys.argv[1], Path(sys.argv[2]))
