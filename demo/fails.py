"""An error inside of an iteration, at which nothing can be saved."""
from mmcv.runner import HOOKS, Hook


@HOOKS.register_module()
class Fails(Hook):
    """Raises in one iteration, behind the forward pass.

    Args:
        at (int, optional): In which, from 1 on. Default: None, for none.
    """

    def __init__(self, at=None):
        self.at = at

    def after_train_iter(self, runner):
        if runner.iter + 1 == self.at:
            raise RuntimeError(f'iteration {self.at} fails, as it was told')
