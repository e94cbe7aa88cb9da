"""A fake of petrel's SDK, with the calls that mmcv makes."""
import sys
import types

#: What is stored, by URL; all clients share it, as they share a cluster.
OBJECTS = {}


class PetrelClient:
    """Stands for ``petrel_client.client.Client``; None for a missing key."""

    def __init__(self, conf_path=None, enable_mc=True):
        self.objects = OBJECTS

    def Get(self, path):
        return self.objects.get(path)

    def put(self, path, content):
        self.objects[path] = bytes(content)

    def delete(self, path):
        self.objects.pop(path, None)

    def contains(self, path):
        return path in self.objects

    def isdir(self, path):
        return any(key.startswith(f'{path}/') for key in self.objects)

    def list(self, path):
        for key in self.objects:
            if key.startswith(path):
                yield key[len(path):]


def install(monkeypatch):
    """Put the fake, empty, into ``sys.modules``."""
    OBJECTS.clear()
    package = types.ModuleType('petrel_client')
    package.client = types.ModuleType('petrel_client.client')
    package.client.Client = PetrelClient
    monkeypatch.setitem(sys.modules, 'petrel_client', package)
    monkeypatch.setitem(sys.modules, 'petrel_client.client', package.client)
