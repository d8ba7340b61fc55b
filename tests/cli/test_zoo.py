import json

from tests.cli.test_app import reappear


def test_pattern_gives_a_table(capsys):
    code, out, _ = reappear(capsys, "models", "vit_*")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["vit_tiny", "vit_small", "vit_base"]
    assert "23.00" in lines[2]
    assert "70.3 / 86.9" in lines[2]
    assert "one image of 256×128; FLOPs are twice that" in out


def test_name_gives_a_card(capsys):
    code, out, _ = reappear(capsys, "models", "resnet50_ibn", "--height", "384")
    assert code == 0
    assert "2048, from a map of 2048×24×8" in out
    assert "23,508,032" in out
    assert "ResNet50_IBN.pth" in out


def test_card_of_a_timm_model_omits_unknown_fields(capsys):
    code, out, _ = reappear(capsys, "models", "resnet26")
    assert code == 0
    assert out.startswith("resnet26\n")
    assert "paper" not in out


def test_json(capsys):
    code, out, _ = reappear(capsys, "models", "ghostnet_0_5", "--json")
    assert code == 0
    (found,) = json.loads(out)
    assert found["parameters"] == 1_306_292
    assert found["feature_map"] == [480, 8, 4]
    assert found["market1501"] == [81.0, 92.0]


def test_unknown_names_and_sizes_are_refused(capsys):
    assert reappear(capsys, "models", "vit_smal")[::2] == (
        1,
        "reappear: no model is called 'vit_smal'; did you mean vit_small?\n",
    )
    code, _, err = reappear(capsys, "models", "volo_d1", "--height", "8")
    assert code == 2
    assert err.startswith("reappear: volo_d1 does not take images of 8x128")
    assert len(err.splitlines()) == 1
