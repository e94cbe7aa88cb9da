#!/bin/sh
# Prints the path of a Python 3.10 or 3.11 that can make environments, or one
# line on standard error that says what is missing.
# PYTHON=... names the interpreter to use; nothing else is tried then.
probe='
import sys
if sys.version_info[:2] not in ((3, 10), (3, 11)):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("cannot make environments (%s; Debian: install python%d.%d-venv)"
             % ((error, ) + sys.version_info[:2]))
print(sys.executable)
'
seen=
for name in ${PYTHON:-python3.11 python3.10 python3 python}; do
    command -v "$name" >/dev/null 2>&1 || continue
    if said=$("$name" -c "$probe" 2>&1); then
        echo "$said"
        exit 0
    fi
    seen="$seen; $name $(echo "$said" | head -n 1)"
done
echo "mmcv_ckpt_hooks: Python 3.10 or 3.11 is needed (PYTHON=/path/to/python" \
    "names one)${seen:-; found no ${PYTHON:-Python}}" >&2
exit 1
