"""The user of a request, as the access token describes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from scaling_kit.tokens.access import AccessToken
from scaling_kit.tokens.conf import simple_jwt
from scaling_kit.tokens.refusals import Refusal


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenUser:
    """Takes the place of the user model in `request.user`, and never touches the database unless told to `fetch()`.

    As true as the token: flags, roles and permissions are those at log-in or at the last refresh. It is no model
    instance: filter and assign by key (`owner_id=request.user.pk`). It equals the model instance of the same user.
    """

    pk: Any
    username: str = ""
    is_staff: bool = False
    is_superuser: bool = False
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    claims: dict[str, Any] = field(default_factory=dict, repr=False)

    is_active: Literal[True] = field(default=True, init=False)
    is_authenticated: Literal[True] = field(default=True, init=False)
    is_anonymous: Literal[False] = field(default=False, init=False)

    @classmethod
    def from_token(cls, token: AccessToken) -> TokenUser:
        """Raises `Refusal` if the token's subject cannot be the key of a user."""
        claims = token.claims
        return cls(
            pk=_key_of(token.user_id),
            username=str(claims.get("username", "")),
            is_staff=claims.get("is_staff") is True,
            is_superuser=claims.get("is_superuser") is True,
            roles=_names(claims.get("roles")),
            permissions=_names(claims.get("permissions")),
            claims=dict(claims),
        )

    @property
    def id(self) -> Any:
        return self.pk

    def get_username(self) -> str:
        return self.username

    def get_all_permissions(self, obj: object = None) -> set[str]:
        return set(self.permissions) if obj is None else set()

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """`app_label.codename`. About a single object a token says nothing: only a superuser has such permissions."""
        return self.is_superuser or (obj is None and perm in self.permissions)

    def has_perms(self, perm_list: Iterable[str], obj: object = None) -> bool:
        return all(self.has_perm(perm, obj) for perm in perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_superuser or any(perm.startswith(f"{app_label}.") for perm in self.permissions)

    def fetch(self) -> Any:
        """The row of this user: one SQL query. Raises the model's `DoesNotExist`."""
        return get_user_model()._default_manager.get(**{simple_jwt().USER_ID_FIELD: self.pk})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenUser | get_user_model()) and self.pk == other.pk

    def __hash__(self) -> int:
        return hash(self.pk)

    def __str__(self) -> str:
        return self.username


def _key_of(user_id: str) -> Any:
    """The key as the user model has it: an int, a UUID."""
    options, name = get_user_model()._meta, simple_jwt().USER_ID_FIELD
    model_field: Any = options.pk if name == "pk" else options.get_field(name)
    try:
        return model_field.to_python(user_id)
    except ValidationError as error:
        raise Refusal("token_claims") from error


def _names(claim: object) -> frozenset[str]:
    return frozenset(map(str, claim)) if isinstance(claim, list) else frozenset()
