"""`mpt serve`: serves the prompts of several runs over HTTP with one backbone.

The way of a request: ``connection`` (its bytes), ``app`` (its route), ``requests`` (its body), ``chat``
(messages as text), ``batcher`` (it waits for others), ``engine`` and ``group`` (they are computed together),
``text`` (what the tokens say), ``inbox`` (back to the request), ``answers`` (the response).
``description`` is the OpenAPI document, ``metrics`` count for Prometheus, ``server`` starts and stops
the whole.
"""
