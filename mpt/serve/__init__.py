"""`mpt serve`: serves the prompts of several runs over HTTP with one backbone.

``app`` has the HTTP routes, and ``protocol`` the bodies of requests and answers; ``batcher`` collects the
requests of many clients into batches; ``engine`` computes a batch; ``metrics`` counts for Prometheus;
``server`` starts and stops the whole.
"""
