"""What reading a damaged .npy or .npz file raises."""

import lzma
import tokenize
import zipfile
import zlib

# By NumPy, zipfile and zlib, down to the parser of a header that is not Python.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    SyntaxError,
    MemoryError,
    OverflowError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
