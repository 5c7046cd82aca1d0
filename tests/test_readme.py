import pytest
import readme
import yaml


def test_the_readmes_addresses_and_times_are_those_of_the_configuration_and_the_record():
    text = readme.README.read_text(encoding="utf-8")
    assert readme.renewed(text) == text, "run `make notebooks`"


def test_old_ones_are_renewed_and_all_else_stays():
    text = "# Title\n\n<!-- made -->\nold\n<!-- /made -->\n\nWords.\n"
    new = readme.renewed(text)
    assert new.startswith("# Title\n\n<!-- made -->\n")
    assert new.endswith("<!-- /made -->\n\nWords.\n")
    assert "old" not in new
    config = yaml.safe_load((readme.heads.ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert f"git clone {config['repository']['url']}.git" in new
    assert config["html"]["baseurl"] in new
    assert readme.renewed(new) == new
    with pytest.raises(ValueError, match="marks"):
        readme.renewed("# Title\n")


@pytest.mark.parametrize(("minutes", "said"), [(29, "half an hour"), (62, "1 hour"), (140, "2.5 hours")])
def test_hours(minutes, said):
    assert readme.hours(minutes) == said
