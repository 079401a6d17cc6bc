"""The OpenAPI document of the HTTP routes (SPEC: HTTP-9).

operation
    One method of one route, described in a table beside those of its kind: what it takes, what it answers.
document
    All operations as OpenAPI 3.1; the shapes of bodies and answers are those of the models that make them.
"""
