"""What an installed package holds beside its modules."""
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmcv import Config

import mmcv_ckpt_hooks

ROOT = Path(mmcv_ckpt_hooks.__file__).parent.parent
CONFIGS = ROOT / 'configs'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel of a copy of the checkout: a build writes beside setup.py."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'],
                            cwd=str(ROOT),
                            stdout=subprocess.PIPE,
                            universal_newlines=True)
    if listed.returncode:
        pytest.skip('not a checkout of git')
    for name in listed.stdout.splitlines():
        path, target = ROOT / name, source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            target.symlink_to(os.readlink(str(path)))
        elif path.is_file():
            target.write_bytes(path.read_bytes())
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps']
    command += ['--no-build-isolation', '-w', str(folder), str(source)]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True)
    assert done.returncode == 0, done.stdout
    target = folder / 'unpacked'
    with zipfile.ZipFile(str(next(folder.glob('*.whl')))) as archive:
        archive.extractall(str(target))
    return target / 'mmcv_ckpt_hooks'


def test_configs_are_where_mim_looks(wheel):
    """``<package>/.mim/configs``, and an index beside them."""
    found = {
        str(path.relative_to(wheel / '.mim' / 'configs'))
        for path in (wheel / '.mim' / 'configs').rglob('*.py')
    }
    assert found == {
        str(path.relative_to(CONFIGS))
        for path in CONFIGS.rglob('*.py')
    }
    index = yaml.safe_load((wheel / '.mim' / 'model-index.yml').read_text())
    for name in index['Import']:
        models = yaml.safe_load((wheel / '.mim' / name).read_text())['Models']
        for model in models:
            path = wheel / '.mim' / model['Config']
            assert path.stem == model['Name']
            # with what it inherits
            config = Config.fromfile(str(path), import_custom_modules=False)
            assert config.model.type


def test_every_example_with_a_model_is_in_the_index():
    listed = yaml.safe_load((CONFIGS / 'metafile.yml').read_text())['Models']
    examples = [
        f'configs/{path.name}' for path in sorted(CONFIGS.glob('*.py'))
        if not path.name.startswith(('checkpoints_', 'nuclei_'))
    ]
    assert sorted(model['Config'] for model in listed) == examples


def test_an_editable_install_has_the_files_themselves():
    assert (ROOT / 'mmcv_ckpt_hooks' / '.mim' / 'configs').resolve() == CONFIGS
