"""The weights of any checkpoint, as ``load_from`` takes them."""
import os
from types import MappingProxyType
from typing import Any, Dict

from .checking import Access, opened
from .checkpoint_fields import weights_of
from .errors import ResumeError
from .folders.loading import load_folder_weights
from .folders.place import any_folder_of, leads_to_folder
from .given_path import refuse_directory
from .loading import load_checkpoint

_PLAIN: Access = MappingProxyType({})


def load_weights(path: str,
                 trust: bool,
                 access: Access = _PLAIN) -> Dict[str, Any]:
    """Load any checkpoint of a model, also a bare state dict.

    Raises:
        ResumeError: If it holds no weights by name.
        ConfigError: If it is a directory.
    """
    refuse_directory(path)
    backend, _, name = opened(path, access)
    if leads_to_folder(path):
        return load_folder_weights(
            any_folder_of(backend, name, access),
            os.path.join(backend.url, name))
    with backend.open(name) as file:
        content = load_checkpoint(file, os.path.join(backend.url, name), trust)
    weights = weights_of(content) if isinstance(content, dict) else content
    if not isinstance(weights, dict) or \
            not all(isinstance(key, str) for key in weights):
        raise ResumeError(f'{path} holds a {type(content).__name__}, expected '
                          'a checkpoint or a state dict: weights by name')
    return dict(content)
