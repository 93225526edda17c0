"""Multitask prompt tuning in JAX: universal soft prompts that transfer to new tasks.

Array shapes use these letters throughout:

| letter | dimension                | letter | dimension               |
|--------|--------------------------|--------|-------------------------|
| B      | rows of a batch          | N      | attention heads         |
| T      | tokens of a row's text   | K      | key and value heads     |
| L      | label positions of a row | H      | width of a head         |
| P      | prompt vectors           | F      | width of a feed-forward |
| J      | prompts (tasks)          | V      | vocabulary              |
| R      | rank of a task's part    | S      | positions attended to   |
| D      | width of the model       | C      | choices of a row        |
"""

__version__ = "0.1.0"
