"""Trials in parallel on Ray: the only part that imports ray, which reads these settings when it is imported."""

import os
from pathlib import Path

_TOKEN_FILE = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no network at run time
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what ray 2.60 warns will be the default
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records replace its CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the sweep as if it were complete
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables, which our display replaces
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # on disk where /dev/shm is small, as in containers
}
if os.environ.get("RAY_AUTH_TOKEN") or _TOKEN_FILE.exists():
    _ENVIRONMENT["RAY_AUTH_MODE"] = "token"  # clusters require it by default, but drivers and clients do not send it
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
