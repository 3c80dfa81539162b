import pytest

from hf_nar.hub.credentials import find_credential

LETTERS = "aB3" * 14


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"login('hf_{LETTERS[:34]}')", "a token of the Hub"),
        (f"ghp_{LETTERS[:36]}", "a token of GitHub"),
        (f"github_pat_{LETTERS}", "a token of GitHub"),
        ("AKIA" + "AB23" * 4, "a key of Amazon Web Services"),
        (f'"sk-ant-{LETTERS}"', "a key of OpenAI or Anthropic"),
        ("WANDB_API_KEY=" + "0a" * 20, "a key of Weights & Biases"),
        ("-----BEGIN OPENSSH PRIVATE" + " KEY-----", "a private key"),
    ],
)
def test_secrets_are_found(text, kind):
    assert find_credential(f"before {text} after", None) == kind


@pytest.mark.parametrize(
    "text",
    [
        "hf_nar.remote_code, hf_hub_download, hf_" + "x" * 29,
        "task-" + LETTERS + " risk-averse sk-learn",
        '"weights_sha256": "' + "0a" * 32 + '"',
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_only_looks_a_little_like_one_is_not(text):
    assert find_credential(text, None) == ""


def test_a_token_too_short_to_be_one_is_not_searched():
    assert find_credential("the model and the data", "the") == ""
