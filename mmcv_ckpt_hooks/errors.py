"""Every error that this package raises on purpose.

::

    CheckpointError                 base of all; catch this one
    |-- ConfigError                 an argument is wrong (a ValueError)
    |-- IntegrityError              not the checkpoint that it claims to be
    |   |-- TruncatedError          bytes are missing at the end
    |   |-- CorruptError            a record or a digest is wrong
    |   `-- UnverifiableError       a format without checksums (torch < 1.6)
    |-- UnsafeCheckpointError       loading it would need to run its code
    |-- ResumeError                 undamaged, but does not fit the run
    |-- TornError                   the state changed while it was copied
    `-- StorageError                a storage backend could not do its work
        |-- MissingCheckpointError  not there (a FileNotFoundError)
        |-- MissingPlaceError       no such bucket
        |-- AccessError             not allowed; never means "not there"
        |-- LockedError             another run writes to the directory
        |-- OutOfSpaceError         no space or quota left
        |-- UnsupportedError        the backend lacks this capability
        `-- DependencyError         no such package (an ImportError)

Every class can be built from one string: ``mmcv.build_from_cfg`` re-raises
what a constructor raised as ``type(e)(message)``.
"""

#: What to do about a file that is loaded only by unpickling it in full.
TRUST = ('If you trust who made the file, give DurableCheckpointHook '
         'trust_checkpoint=True until the run has saved one of its own; in '
         'Python torch.load loads it (weights_only=False from torch 2.6 on)')


class CheckpointError(Exception):
    """Base of all errors of this package."""


class ConfigError(CheckpointError, ValueError):
    """An argument is unknown, has a wrong value or contradicts another.

    ``mmcv.build_from_cfg`` puts the class's name before the message; where it
    stands there already, it is not said twice.
    """

    def __init__(self, message: str = '') -> None:
        name, _, rest = message.partition(': ')
        super().__init__(rest if rest.startswith(f'{name}: ') else message)


class IntegrityError(CheckpointError):
    """A file is not the complete, undamaged checkpoint it claims to be."""


class TruncatedError(IntegrityError):
    """Bytes are missing at the end of a checkpoint."""


class CorruptError(IntegrityError):
    """A record, the zip directory or the digest of a checkpoint is wrong."""


class UnverifiableError(IntegrityError):
    """A checkpoint in a format that has no checksums (torch < 1.6)."""


class UnsafeCheckpointError(CheckpointError):
    """Loading a checkpoint would need to run code that it names."""


class ResumeError(CheckpointError):
    """A checkpoint is undamaged, but this run cannot continue from it."""


class TornError(CheckpointError):
    """Tensors were written while they were copied for a checkpoint."""


class StorageError(CheckpointError):
    """A storage backend could not do what it was asked."""


class MissingCheckpointError(StorageError, FileNotFoundError):
    """No file of that name exists in the storage."""


class MissingPlaceError(StorageError):
    """What should hold the checkpoints is not there: a bucket."""


class AccessError(StorageError):
    """The storage refuses access; this never means "not there"."""


class LockedError(StorageError):
    """Another run writes to the directory, or has taken it over."""


class OutOfSpaceError(StorageError):
    """The storage has no space or no quota left."""


class UnsupportedError(StorageError):
    """The storage backend does not have the capability asked for."""


class DependencyError(StorageError, ImportError):
    """An optional package is missing or is not the one expected."""
