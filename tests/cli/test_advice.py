"""An error that advises a config has other advice on the command line."""
import pickle

import pytest
from checkpoint_files import Payload, torch_written

from mmcv_ckpt_hooks import run_lock, scanning, verify_checkpoint
from mmcv_ckpt_hooks.cli.advice import for_command
from mmcv_ckpt_hooks.errors import CheckpointError
from mmcv_ckpt_hooks.lease import refusal


def ask_for_code(path, monkeypatch):
    path.write_bytes(torch_written(dict(state_dict={}, a=Payload(print, 1))))
    with open(str(path), 'rb') as file:
        scanning.verify_loadable(file, str(path))


def have_a_large_pickle(path, monkeypatch):
    path.write_bytes(torch_written(dict(state_dict={})))
    monkeypatch.setattr(scanning, '_PICKLE_LIMIT_BYTES', 1)
    with open(str(path), 'rb') as file:
        scanning.verify_loadable(file, str(path))


def have_no_checksums(path, monkeypatch):
    path.write_bytes(pickle.dumps({}, 2))
    verify_checkpoint(str(path))


def be_in_use(path, monkeypatch):
    raise refusal(str(path), None, 'it has the lock')


def come_and_go(path, monkeypatch):
    monkeypatch.setattr(run_lock, '_ATTEMPTS', 0)
    run_lock.RunLock(str(path.parent), 'a.lock', print).acquire()


@pytest.mark.parametrize('fail, config, advised', [
    (ask_for_code, 'trust_checkpoint=True', 'If you trust who made this one'),
    (have_a_large_pickle, 'trust_checkpoint=True', 'If you trust who made'),
    (have_no_checksums, 'trust_checkpoint=True', 'If you trust who made'),
    (be_in_use, 'another out_dir', 'Wait for the end of that run'),
    (come_and_go, 'another out_dir', 'Wait for the end of that run'),
])
def test_what_a_config_is_advised_no_command_says(tmp_path, monkeypatch, fail,
                                                  config, advised):
    with pytest.raises(CheckpointError) as caught:
        fail(tmp_path / 'a.pth', monkeypatch)
    error = caught.value
    assert config in str(error)
    told = for_command(error, 'convert')
    assert config not in str(told) and advised in str(told)
    assert type(told) is type(error) and told.__cause__ is error


def test_who_only_looks_is_told_what_a_run_needs(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError) as caught:
        ask_for_code(tmp_path / 'a.pth', monkeypatch)
    assert for_command(caught.value, 'verify') is caught.value


def test_an_error_without_such_advice_is_the_same_one():
    error = CheckpointError('it is not there')
    assert for_command(error, 'convert') is error


def test_a_directory_that_is_there_is_not_called_gone():
    error = FileNotFoundError('no such thing')
    assert for_command(error, 'ls') is error
