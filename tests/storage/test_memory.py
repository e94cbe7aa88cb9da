"""The memory backend, with all capabilities and with fewer."""
import pytest

from mmcv_ckpt_hooks.testing import MemoryBackend
from mmcv_ckpt_hooks.testing.contract import StorageBackendContract
from mmcv_ckpt_hooks.types import Capabilities


class TestMemoryBackend(StorageBackendContract):

    @pytest.fixture(params=[
        None,
        Capabilities(),
        Capabilities(listing=True, delete=True),
        Capabilities(server_copy=True, point=True),
        Capabilities(delete=True, share=True),
    ])
    def backend(self, request):
        backend = MemoryBackend(request.param)
        backend.prepare()
        return backend


def test_remembers_that_it_was_prepared():
    backend = MemoryBackend()
    assert not backend.prepared
    backend.prepare()
    assert backend.prepared
