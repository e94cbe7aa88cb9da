"""Whether a safetensors file is complete and undamaged.

Standard library only: torch is not needed.
"""
from typing import IO, Any, Callable, Optional

from ..checksums import crc32
from ..errors import CorruptError, TruncatedError
from ..instructions import shortened
from ..records import reading
from ..verification import VerifyReport
from ..wording import counted
from ..zip_layout import ADVICE
from .header import Entry, read_header
from .metadata import NO_SUMS, damaged, own_of
from .outlining import outlined

#: Read at a time (bytes).
_BLOCK_BYTES = 1 << 20

Advance = Callable[[int], Any]


def verify_flat(file: IO[bytes],
                path: str,
                digest: Optional[str] = None,
                progress: Optional[Advance] = None) -> VerifyReport:
    """Check the header, the CRC-32 of every tensor, and all that is no tensor.

    A file of another program has no checksums: its header is checked, and
    that every byte can be read.

    Args:
        file (file): Binary and seekable.
        path (str): Its name, for the messages.
        digest (str, optional): As :attr:`FlatFile.digest` had it. Default:
            None.
        progress (callable, optional): Called with the number of bytes just
            checked. Default: None.

    Returns:
        VerifyReport: What was checked; the digest of a file without checksums
        is empty.

    Raises:
        IntegrityError: If it is damaged, or another one.
    """
    header = read_header(file, path)
    if digest and header.digest != digest:
        raise CorruptError(f'{path} has another header than was written: '
                           f'digest {header.digest}, expected {digest}')
    own = own_of(header, path)
    outlined(header, own, path)
    advance = progress or (lambda done: None)
    advance(header.begin)
    end = header.begin
    for name, entry in sorted(
            header.entries.items(), key=lambda item: item[1].start):
        found = _crc(file, path, name, entry, header.begin, advance)
        if own is not None and f'{found:08x}' != own['crc32'][name]:
            raise damaged(path, name, found, own['crc32'][name])
        end = max(end, header.begin + entry.stop)
    if own is None:
        return VerifyReport(path, end, 0, '', {}, NO_SUMS)
    return VerifyReport(path, end, len(header.entries), header.digest,
                        own['card'])


def _crc(file: IO[bytes], path: str, name: str, entry: Entry, begin: int,
         advance: Advance) -> int:
    what, found = f'its tensor {shortened(name)}', 0
    left = entry.stop - entry.start
    with reading(path, what):
        file.seek(begin + entry.start)
    while left:
        with reading(path, what):
            block = file.read(min(_BLOCK_BYTES, left))
        if not block:
            raise TruncatedError(f'{path} was cut off meanwhile, '
                                 f'{counted(left, "bytes")} of {what} are '
                                 f'missing. {ADVICE}')
        found = crc32(block, found)
        left -= len(block)
        advance(len(block))
    return found
