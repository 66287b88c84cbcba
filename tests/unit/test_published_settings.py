"""What of the settings a page may show."""

from __future__ import annotations

from typing import Any

from petct.published_settings import is_absolute, publish_settings


def test_private_settings_are_withheld_where_they_are_set() -> None:
    config: dict[str, Any] = {
        "dataset": "x",
        "folder": "relative/patients",
        "reading": {"salt_file": "salt", "label_pattern": "a/b", "accept": []},
        "download": {
            "list": "ids.txt",
            "patients": ["p1"],
            "index": "a.parquet",
            "studies": 3,
            "endpoint": "http://h.example",
        },
        "nested": [{"folder": "kept", "model": "/models/x"}, ("~/y", 1)],
    }
    assert publish_settings(config) == {
        "dataset": "x",
        "folder": "(withheld)",
        "reading": {"salt_file": "(withheld)", "label_pattern": "a/b", "accept": []},
        "download": {
            **{"list": "(withheld)", "patients": "(withheld)", "index": "(withheld)"},
            "endpoint": "(withheld)",
            "studies": 3,
        },
        "nested": [{"folder": "kept", "model": "(withheld)"}, ["(withheld)", 1]],
    }
    # The original stays whole, and a second time changes nothing.
    assert config["folder"] == "relative/patients"
    assert publish_settings(publish_settings(config)) == publish_settings(config)


def test_what_is_not_set_is_shown_so() -> None:
    config: dict[str, Any] = {
        "folder": None,
        "reading": {"salt_file": None},
        "download": {"patients": []},
    }
    assert publish_settings(config) == config


def test_absolute_paths_of_all_kinds() -> None:
    for path in ("/data", "~/data", "C:\\data", "D:/data", "\\\\server\\share", "file:///data"):
        assert is_absolute(path)
    for text in ("", "data/x", "lesion|gtv", "a:b", "https://example.org", "1.5"):
        assert not is_absolute(text)
