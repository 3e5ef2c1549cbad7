"""Trials in parallel on Ray: the only part that imports ray, which reads these settings when it is imported."""

import os

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no network at run time
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what ray 2.60 warns will be the default
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our records replace its CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would end the sweep as if it were complete
    "RAY_AIR_NEW_OUTPUT": "0",  # its tables, which our display replaces
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # on disk where /dev/shm is small, as in containers
}


def has_token() -> bool:
    """Whether this user has a token of Ray's, which then all clusters are given."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    # pathlib would raise where a user has no home folder
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or os.path.isfile(os.path.expanduser(path))  # noqa: PTH111, PTH113


if has_token():
    _ENVIRONMENT["RAY_AUTH_MODE"] = "token"  # clusters require it by default, but drivers and clients do not send it
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
