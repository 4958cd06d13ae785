"""The errors that this folder's come from."""

from ..motion_models.errors import InvalidInput as InvalidInput  # type: ignore[import-not-found]  # mypy's root is this pack
from ..motion_models.errors import UserError as UserError
