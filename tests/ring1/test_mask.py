"""What of URLs and answers is shown: never a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exoflow.crm.mask import MAX_URL_CHARS, excerpt, is_secret_key, mask_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://crm.example/p?key=K&a=1", "https://crm.example/p?key=***&a=1"),
        ("https://user:pw@crm.example/p", "https://***@crm.example/p"),
        ("https://a@b:c@crm.example/p", "https://***@crm.example/p"),
        ("https://crm.example/p?api%5Fkey=K", "https://crm.example/p?api%5Fkey=***"),
        ("https://crm.example/?access_token=T&X-Signature=S", "https://crm.example/?access_token=***&X-Signature=***"),
        ("https://crm.example/?a=b#token=T", "https://crm.example/?a=b"),
        ("https://crm.example/?key", "https://crm.example/?key"),
        ("https://crm.example/?key=&b=2", "https://crm.example/?key=&b=2"),
        ("https://crm.example/?a=1?key=2", "https://crm.example/?a=1?key=2"),
        ("//user:pw@h/", "//***@h/"),
        ("\x1b[31m", "\\x1b[31m"),
    ],
)
def test_urls(url, shown):
    assert mask_url(url) == shown


def test_the_accounts_own_keys():
    assert mask_url("http://h/?Shop=7&x=1", ["shop"]) == "http://h/?Shop=***&x=1"


# fmt: off
SECRET_KEYS = (
    "key", "apiKey", "api_key", "API-KEY", "token", "accessToken", "secret", "password", "passwd", "pwd", "auth",
    "sig", "signature", "pin",
)
# fmt: on


@pytest.mark.parametrize("key", SECRET_KEYS)
def test_secret_keys(key):
    assert is_secret_key(key)


# fmt: off
OPEN_KEYS = (
    "CallSid", "CallFrom", "Direction", "DialWhomNumber", "monkey", "keyboard", "assigned", "author", "design",
    "digits", "Legs[0][CauseCode]",
)
# fmt: on


@pytest.mark.parametrize("key", OPEN_KEYS)
def test_open_keys(key):
    assert not is_secret_key(key)


@given(st.text())
def test_no_text_breaks_it(text):
    assert len(mask_url(text)) <= max(MAX_URL_CHARS, 1) * 10
    assert mask_url(f"http://h/?key=SECRET{MAX_URL_CHARS}&x={text}").count("SECRET") == text.split("#")[0].count("SECRET")


@given(st.binary(), st.text())
def test_no_answer_breaks_it(body, url):
    assert excerpt(body, url).isprintable()


def test_a_secret_at_the_cut_is_masked_whole():
    shown = excerpt(b"x" * 195 + b"SECRETSECRET", "http://h/?key=SECRETSECRET")
    assert "SEC" not in shown


def test_a_secret_is_masked_as_written_and_as_read():
    url = "http://user:pass%2Fword@h/?token=a%20b%20c"
    assert excerpt(b"you sent a b c and a%20b%20c and pass%2Fword", url) == "you sent *** and *** and ***"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"api_key": "K1", "n": 1}', '{"api_key": "***", "n": 1}'),
        (b"password=hunter2&user=me", "password=***&user=me"),
        (b"09999999903,09999999904", "09999999903,09999999904"),
        (b"\xff\xfe", "��"),
    ],
)
def test_answers(body, shown):
    assert excerpt(body) == shown
