import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from botocore.exceptions import ClientError
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile

from scaling_kit import recipes
from scaling_kit.media.storage import ObjectChangedError, SharedClientS3Storage, StorageUnavailableError
from tests import settings as test_settings

S3 = test_settings.S3


def another_storage(**changes: object) -> SharedClientS3Storage:
    given = {"endpoint": S3.endpoint, "access_key": S3.access_key, "secret_key": S3.secret_key, **changes}
    return SharedClientS3Storage(**recipes.storages("test", **given)["default"]["OPTIONS"])


def test_clients__one_for_all_threads(storage: SharedClientS3Storage) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: id(storage.clients), range(16)))) == 1


def test_client_after_fork__a_new_one_that_works(storage: SharedClientS3Storage, folder: str) -> None:
    before = id(storage.connection)
    pid = os.fork()
    if pid == 0:
        try:
            storage.write(f"{folder}/child.txt", b"from the child", content_type="text/plain")
            os._exit(0 if id(storage.connection) != before else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert storage.open(f"{folder}/child.txt").read() == b"from the child"


def test_fork_while_a_thread_makes_the_client__child_is_not_blocked(s3: str) -> None:
    storage = another_storage()
    thread = threading.Thread(target=lambda: storage.clients)
    thread.start()
    pid = os.fork()
    if pid == 0:
        try:
            storage.listdir("")
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    thread.join()


def test_pickled__works_on_the_other_side(storage: SharedClientS3Storage, folder: str) -> None:
    name = storage.save(f"{folder}/a.txt", ContentFile(b"a"))
    assert pickle.loads(pickle.dumps(storage)).open(name).read() == b"a"


def test_8_threads_save_one_name__8_names(storage: SharedClientS3Storage, folder: str) -> None:
    def save(number: int) -> str:
        return str(storage.save(f"{folder}/race.txt", ContentFile(str(number).encode())))

    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(save, range(8)))
    assert len(set(names)) == 8
    assert [storage.open(name).read() for name in names] == [str(number).encode() for number in range(8)]


@pytest.mark.parametrize("name", ["../up.txt", "a/../../up.txt"])
def test_name_outside_of_the_bucket__refused(storage: SharedClientS3Storage, name: str) -> None:
    with pytest.raises(SuspiciousFileOperation):
        storage.get_available_name(name)


def test_name_longer_than_the_field__refused(storage: SharedClientS3Storage) -> None:
    with pytest.raises(SuspiciousFileOperation, match="longer than the 30"):
        storage.get_available_name("photos/a.jpg", max_length=30)


def test_read_10_of_8_mb__fetches_one_range(storage: SharedClientS3Storage, folder: str) -> None:
    storage.write(f"{folder}/big", bytes(range(256)) * 32768, content_type="application/octet-stream")
    fetched: list[int] = []
    storage.clients.looking.meta.events.register(
        "after-call.s3.GetObject", lambda parsed, **_: fetched.append(parsed["ContentLength"])
    )
    with storage.open(f"{folder}/big") as file:
        assert file.read(10) == bytes(range(10))
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"\xfd\xfe\xff"
        assert file.size == 8 * 1024 * 1024
    assert sum(fetched) <= 1024 * 1024 + 3


def test_read__in_lines_chunks_and_again_after_close(storage: SharedClientS3Storage, folder: str) -> None:
    name = storage.save(f"{folder}/lines.txt", ContentFile("eins\nzwei\ndröi\n".encode()))
    with storage.open(name, "r") as file:
        assert file.readlines() == ["eins\n", "zwei\n", "dröi\n"]
    with file.open() as again:
        assert again.read() == "eins\nzwei\ndröi\n"
    assert file.open("rb").read() == "eins\nzwei\ndröi\n".encode()
    assert b"".join(storage.open(name).chunks(4)) == "eins\nzwei\ndröi\n".encode()


def test_mode_that_s3_cannot_do__refused(storage: SharedClientS3Storage, folder: str) -> None:
    with pytest.raises(ValueError, match="mode 'a'"):
        storage.open(f"{folder}/log", "a")


def test_empty_object__reads_as_nothing(storage: SharedClientS3Storage, folder: str) -> None:
    assert storage.open(storage.save(f"{folder}/empty", ContentFile(b""))).read() == b""


def test_missing_object__file_not_found(storage: SharedClientS3Storage, folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.open(f"{folder}/nothing")


def test_object_replaced_while_it_is_read__noticed(storage: SharedClientS3Storage, folder: str) -> None:
    storage.write(f"{folder}/a", b"old" * 1000, content_type="text/plain")
    file = storage.open(f"{folder}/a")
    storage.write(f"{folder}/a", b"new" * 1000, content_type="text/plain")
    with pytest.raises(ObjectChangedError):
        file.read()


def test_write_block_raises__no_object(storage: SharedClientS3Storage, folder: str) -> None:
    with pytest.raises(ZeroDivisionError), storage.open(f"{folder}/half", "wb") as file:
        file.write(b"x" * 1000)
        raise ZeroDivisionError
    assert not storage.exists(f"{folder}/half")


def test_write_block_ends__object_is_there(storage: SharedClientS3Storage, folder: str) -> None:
    with storage.open(f"{folder}/whole", "wb") as file:
        file.write(b"x" * 6_000_000)
        file.write(b"y")
    assert storage.size(f"{folder}/whole") == 6_000_001


def test_signed_url__fetches_and_is_the_same_in_every_process(storage: SharedClientS3Storage, folder: str) -> None:
    name = f"{folder}/sp ace ü~+%25(1).txt"
    storage.write(name, b"hello", content_type="text/plain")
    url = storage.url(name)
    assert httpx.get(url).text == "hello"
    assert another_storage().url(name) == url
    assert httpx.get(storage.url(name, {"ResponseContentDisposition": "attachment"})).headers["content-disposition"]


@pytest.mark.parametrize("wrong", ["other key", "other time", "no signature", "other secret"])
def test_signed_url_tampered__refused(storage: SharedClientS3Storage, folder: str, wrong: str) -> None:
    storage.write(f"{folder}/a", b"secret", content_type="text/plain")
    storage.write(f"{folder}/b", b"secret", content_type="text/plain")
    url = storage.url(f"{folder}/a")
    tampered = {
        "other key": url.replace(f"{folder}/a", f"{folder}/b"),
        "other time": url.replace("X-Amz-Expires=3900", "X-Amz-Expires=39000"),
        "no signature": url.partition("?")[0],
        "other secret": another_storage(secret_key="guessed").url(f"{folder}/a"),
    }[wrong]
    assert tampered != url
    assert httpx.get(tampered).status_code in (400, 403)


def test_signed_url__valid_for_the_time_asked_for_at_least(storage: SharedClientS3Storage) -> None:
    query = parse_qs(urlsplit(storage.url("a", expire=60)).query)
    assert query["X-Amz-Expires"] == ["360"]
    assert query["X-Amz-Date"][0][-3:] == "00Z"


@pytest.mark.parametrize("public", ["/s3", "https://example.com/files/"])
def test_public_endpoint__handed_out_but_signed_for_the_endpoint(
    storage: SharedClientS3Storage, folder: str, public: str
) -> None:
    storage.write(f"{folder}/a", b"hello", content_type="text/plain")
    behind_proxy = another_storage(public_endpoint=public)
    for url in (
        behind_proxy.url(f"{folder}/a"),
        behind_proxy.presigned_put(f"{folder}/a", content_type="text/plain", size=1, expires=60),
    ):
        assert url.startswith(f"{public.rstrip('/')}/test/{folder}/a?")
    proxied = behind_proxy.url(f"{folder}/a").removeprefix(public.rstrip("/"))
    assert httpx.get(f"{S3.endpoint}{proxied}").text == "hello"


def put(url: str, body: bytes = b"1234", content_type: str = "image/png") -> int:
    return httpx.put(url, content=body, headers={"Content-Type": content_type}).status_code


def test_presigned_put__accepts_exactly_what_was_signed(storage: SharedClientS3Storage, folder: str) -> None:
    url = storage.presigned_put(f"{folder}/a", content_type="image/png", size=4, expires=60)
    assert put(url, b"12345") == 403
    assert put(url, b"123") == 403
    assert put(url, content_type="text/html") == 403
    assert put(url.replace(f"{folder}/a", f"{folder}/b")) == 403
    assert not storage.exists(f"{folder}/a")
    assert put(url) == 200
    assert storage.stat(f"{folder}/a").content_type == "image/png"


def test_presigned_put_expired__refused(storage: SharedClientS3Storage, folder: str) -> None:
    url = storage.presigned_put(f"{folder}/a", content_type="image/png", size=4, expires=-1)
    assert put(url) in (400, 403)


def test_copy_of_another_version__refused(storage: SharedClientS3Storage, folder: str) -> None:
    storage.write(f"{folder}/a", b"looked at", content_type="text/plain")
    etag = storage.stat(f"{folder}/a").etag
    storage.write(f"{folder}/a", b"swapped", content_type="text/plain")
    with pytest.raises(ObjectChangedError):
        storage.copy(f"{folder}/a", f"{folder}/b", etag=etag, content_type="text/plain")
    assert not storage.exists(f"{folder}/b")


def test_location__prefixes_keys_and_not_names(s3: str, folder: str) -> None:
    options = recipes.storages("test", endpoint=S3.endpoint, access_key=S3.access_key, secret_key=S3.secret_key)
    storage = SharedClientS3Storage(**options["default"]["OPTIONS"], location=folder)
    storage.write("in/a", b"a", content_type="text/plain")
    assert [found.key for page in storage.listing("in/") for found in page] == ["in/a"]
    assert httpx.get(storage.url("in/a")).text == "a"
    storage.remove(["in/a", "in/never-was"])
    assert not storage.exists("in/a")


def test_nobody_listens__unavailable() -> None:
    with pytest.raises(StorageUnavailableError):
        another_storage(endpoint="http://127.0.0.1:9").stat("a")


def test_wrong_secret__is_not_called_unavailable(s3: str) -> None:
    with pytest.raises(ClientError):
        another_storage(secret_key="guessed").stat("a")
