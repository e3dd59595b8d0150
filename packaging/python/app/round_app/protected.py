"""The same clients behind the guard: pyproject.toml names these."""

from anchorhold_flower import protect

message = protect("round_app.message_client:unprotected")
legacy = protect("round_app.legacy_client:unprotected")
