"""The base of this folder's errors."""

from ..motion_models.errors import UserError as UserError  # type: ignore[import-not-found]  # mypy's root is this pack
