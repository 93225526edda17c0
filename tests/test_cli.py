def test_end(adapted):
    assert (adapted / "result.json").exists()
