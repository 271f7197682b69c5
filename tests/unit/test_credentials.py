"""Users and passwords of URLs: masked, and found where they must not be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.credentials import has_secret, has_unencoded_credentials, without_credentials

word = st.text("abcXYZ019_.:", min_size=1, max_size=8)


@given(word, word, word)
def test_credentials_go_and_the_rest_stays(user, password, host):
    masked = without_credentials(f"see https://{user}:{password}@{host}/p?q=1 and me@{host}")
    assert masked == f"see https://***@{host}/p?q=1 and me@{host}"


def test_a_password_that_holds_an_at_sign_is_masked_whole():
    assert without_credentials("http://u:p@ss@host/x") == "http://***@host/x"
    asked = without_credentials("postgresql://h/db?password=S%40c&user=u")
    assert asked == "postgresql://h/db?password=***&user=u"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:pa/ss@h/db", True),
        ("postgresql://u:12/34@h/db", True),
        ("postgresql://u:p@s/s@h/db", True),
        ("postgresql://u:pa ss@h/db", True),
        ("postgresql://my user@h/db", True),
        ("postgresql://h/db?user=u&password=a b", True),
        ("postgresql://u:p%2Fss@h:5432/db?sslmode=require", False),
        ("postgresql://u@h/db", False),
        ("sqlite:////my home/a:b/c@d.db", False),
        ("file:///my home/a@b", False),
    ],
)
def test_a_password_that_a_mask_would_cut_is_found(url, expected):
    assert has_unencoded_credentials(url) is expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("tune.storage=postgresql://u:p@h/db", True),
        ("tune.storage=postgresql://u:p/p@h/db", True),
        ("tune.storage=postgresql://h/db?password=p", True),
        ("tracking.uri=https://token@h", True),
        ("tune.storage=postgresql://u@h:5432/db", False),
        ("predict.model=models:/erray@champion", False),
        ("tracking.uri=http://h:5000/x", False),
    ],
)
def test_a_user_of_a_database_alone_is_no_secret(argument, expected):
    assert has_secret(argument) is expected
