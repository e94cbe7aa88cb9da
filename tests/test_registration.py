"""The registered names, also where a repo was there before."""
import pytest
from mmcv.runner import HOOKS, RUNNERS

import mmcv_ckpt_hooks
from mmcv_ckpt_hooks.registration import register_all


@pytest.mark.parametrize('registry, name', [
    (HOOKS, 'DurableCheckpointHook'),
    (HOOKS, 'DistOptimizerHook'),
    (RUNNERS, 'IterBasedRunnerAmp'),
    (RUNNERS, 'EpochBasedRunnerAmp'),
])
def test_a_repo_that_registered_the_name_can_import_the_plugin(
        monkeypatch, caplog, registry, name):
    """ConvNeXt, Swin, BEiT and UniFormer: ``mmcv_custom``."""
    theirs = type(name, (), dict(__module__='mmcv_custom.runner'))
    monkeypatch.setitem(registry.module_dict, name, theirs)
    register_all()
    assert registry.get(name) is getattr(mmcv_ckpt_hooks, name)
    told = [one for one in caplog.messages if 'mmcv_custom.runner' in one]
    assert len(told) == 1 and name in told[0]


def test_registering_twice_is_told_by_nobody(caplog):
    register_all()
    assert caplog.messages == []
