"""CRC-32 as in zip files, by the fastest library that is installed."""
try:
    # extra [fast]: uses the processor's carry-less multiplication
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ['crc32']
