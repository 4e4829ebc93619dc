import copy
import pickle
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from scaling_kit.tokens.authentication import authenticate
from scaling_kit.tokens.users import TokenUser
from tests.tokens.conftest import Login

pytestmark = pytest.mark.django_db


@pytest.fixture
def token_user(login: Login, user: User) -> TokenUser:
    editors = Group.objects.create(name="editors")
    editors.permissions.add(Permission.objects.get(codename="add_group"))
    user.groups.add(editors)
    return authenticate(login()["access"])[0]


def test_token_user__is_copied_and_pickled(token_user: TokenUser) -> None:
    for twin in (copy.copy(token_user), copy.deepcopy(token_user), pickle.loads(pickle.dumps(token_user))):
        assert twin == token_user
        assert twin.permissions == token_user.permissions


def test_token_user__has_what_a_user_has_and_nothing_else(token_user: TokenUser, user: User) -> None:
    assert (token_user.pk, token_user.id, str(token_user)) == (user.pk, user.pk, "ada")
    assert token_user.is_authenticated
    assert token_user.is_active
    assert not any((token_user.is_anonymous, token_user.is_staff, token_user.is_superuser))
    assert not hasattr(token_user, "anything")


def test_permissions__from_the_token(token_user: TokenUser, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert token_user.has_perm("auth.add_group")
        assert not token_user.has_perms(["auth.add_group", "auth.delete_group"])
        assert not token_user.has_perm("auth.add_group", obj=token_user)
        assert token_user.has_module_perms("auth")
        assert token_user.get_all_permissions() == {"auth.add_group"}
        assert token_user.roles == {"editors"}


def test_superuser__has_every_permission(login: Login, user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    superuser = authenticate(login()["access"])[0]
    assert superuser.has_perm("any.thing", obj=user)


def test_token_user__equals_its_row(token_user: TokenUser, user: User) -> None:
    assert token_user == user
    assert user == token_user
    assert len({user, token_user}) == 1
    assert token_user != User(pk=user.pk + 1)
    assert token_user != user.pk


def test_fetch__the_row(token_user: TokenUser, user: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert type(token_user.fetch()) is User
