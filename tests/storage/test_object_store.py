"""The object store backend on a real S3 server."""
import uuid

import pytest
from object_server import BUCKET

pytest.importorskip('obstore', reason='pip install obstore')

from mmcv_ckpt_hooks.storage.object_store import \
    ObjectStoreBackend  # noqa: E402
from mmcv_ckpt_hooks.testing.contract import \
    StorageBackendContract  # noqa: E402


@pytest.fixture
def url():
    """A prefix that no other test has."""
    return f's3://{BUCKET}/{uuid.uuid4().hex}/run'


class TestObjectStoreBackend(StorageBackendContract):

    @pytest.fixture
    def backend(self, s3_server, url):
        backend = ObjectStoreBackend(url, s3_server.options())
        backend.prepare()
        return backend
