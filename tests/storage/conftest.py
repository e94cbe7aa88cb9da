"""What the tests of backends share."""
import pytest

pytest.register_assert_rewrite('mmcv_ckpt_hooks.testing.contract',
                               'mmcv_ckpt_hooks.testing.folder_contract')
