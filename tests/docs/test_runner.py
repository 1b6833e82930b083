"""The runner of the documentation's code blocks."""

import pytest

from tests.docs import runner

PAGE = """
```python
# folder/module.py
VALUE = 3
```

```sh
python -c "import folder.module as m; print(m.VALUE)"
```

```text
3
```

```bash
exit 1
```

```text
shown, of nothing that was run
```

```python
from folder.module import VALUE
print(VALUE + 1)
```
"""


def test_blocks_are_files_and_code_with_the_outputs_below_them(tmp_path):
    blocks = runner.blocks_of(PAGE)
    assert [(block.language, block.file, block.shown) for block in blocks] == [
        ("python", "folder/module.py", None),
        ("sh", None, "3\n"),
        ("python", None, None),
    ]
    variables = runner.environment(tmp_path)
    assert [runner.output_of(block, tmp_path, variables) for block in blocks] == ["", "3\n", "4\n"]


def test_a_command_that_fails_is_an_error_with_its_message(tmp_path):
    (block,) = runner.blocks_of("```sh\npython -c 'import sys; sys.exit(\"no such thing\")'\n```\n")
    with pytest.raises(AssertionError, match="no such thing"):
        runner.output_of(block, tmp_path, runner.environment(tmp_path))


def test_a_page_is_rewritten_with_what_its_blocks_print(tmp_path):
    stale = PAGE.replace("```text\n3\n```", "```text\nolder\nlines\n```")
    assert runner.written(stale, tmp_path) == PAGE


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ("36 runs in 2 min 3 s", "36 runs in 47 s", True),
        ("error = 0.004 + 24 x^-0.55", "error = 0.0041 + 25 x^-0.54", True),
        ("exponent 0.55 [0.48, 0.62]", "exponent not identified", False),
        ("a  b\n-----", "a b\n---", True),
    ],
)
def test_outputs_are_compared_word_by_word(here, there, same):
    assert (runner.words_of(here) == runner.words_of(there)) is same
