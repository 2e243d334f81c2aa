"""Credentials in addresses are masked, in each of their forms."""

import pytest

from supersnn.credentials import masked, without_credentials


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://me:s3cr3t@db:5432/studies",
        "postgresql://me:s3cr3t%40x@db/studies?sslmode=require",
        "mysql://me:s3cr3t/x@db/studies",
        "postgresql://me:s3cr3t'x@db/studies",
        "https://me:s3cr3t@mlflow.example.org/path",
        "postgresql:///studies?user=me&password=s3cr3t",
        "postgresql:///studies?user=me&pass%77ord=s3cr3t",
        "postgresql://db/studies?sslmode=a&sslpassword=s3cr3t",
        "https://mlflow.example.org/?token=s3cr3t&page=2",
        "s3://bucket/folder?access_key=me&secret_key=s3cr3t&region=x",
    ],
)
def test_an_address_in_a_text_has_no_password(address: str) -> None:
    text = masked(f"{address} cannot be opened")
    assert "s3cr3t" not in text
    assert text.endswith(" cannot be opened")
    assert text.partition(":")[0] == address.partition(":")[0]


def test_what_is_no_secret_stays() -> None:
    for text in ("sqlite:////a/b%20c.db?timeout=5", "http://host:5000/#/runs?sigma=0.5", "loss.weight=3 a@b", "a // b"):
        assert masked(text) == text


def test_an_error_about_an_address_has_none_of_the_forms_of_its_password() -> None:
    address = "postgresql://me:p%40ss%2Fw0rd@db/x"
    for form in ("p%40ss%2Fw0rd", "p@ss/w0rd"):
        assert form not in masked(f"password {form!r} is wrong", address)
    unquoted = "postgresql://me:half@rest@db/x"
    assert masked("could not translate host name 'rest@db'", unquoted) == "could not translate host name '***@db'"


def test_a_link_has_no_credentials() -> None:
    assert without_credentials("https://me:pw@host:5000/x") == "https://host:5000/x"
    assert without_credentials("https://host/x") == "https://host/x"
