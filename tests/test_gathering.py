"""What a save takes from all ranks, and in which order."""
import types

import pytest

from mmcv_ckpt_hooks import gathering


@pytest.mark.parametrize('sharded', [False, True])
@pytest.mark.parametrize('comes', [False, True])
def test_buffers_are_averaged_when_all_have_come(monkeypatch, sharded, comes):
    """Without one that is missing they are needed as they were."""
    done = []

    def gather(value):
        done.append('gathered')
        if not comes:
            raise RuntimeError('rank 1 has not come')
        return [value]

    class Sharding:

        def planned(self, runner, with_optimizer, gather, known, would_skip):
            gather(None)
            return gathering.consolidated(None)

    monkeypatch.setattr(gathering, 'capture_rank', lambda runner: 'rank')
    monkeypatch.setattr(gathering.distributed, 'average_float_buffers',
                        lambda buffers: done.append('averaged'))
    runner = types.SimpleNamespace(
        optimizer=None, model=types.SimpleNamespace(buffers=list))
    options = types.SimpleNamespace(sync_buffer=True, save_optimizer=False)
    interrupts = types.SimpleNamespace(gather=gather)
    save = gathering.gathered(
        runner, options, interrupts, sharding=Sharding() if sharded else None)
    if comes:
        with save:
            done.append('saved')
        assert done == ['gathered', 'averaged', 'saved']
    else:
        with pytest.raises(RuntimeError, match='has not come'), save:
            pass
        assert done == ['gathered']
