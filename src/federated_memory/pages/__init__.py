"""The web pages: what a person sees of the memory, with the rights of the token that was signed in with.

visit
    A sign-in, `auth.visits`. The gate has checked it before a page is asked for.
page
    A function from `Asked` to a response. It calls the same services as the tools and routes, in a worker thread.
form
    A POST. It comes from this very origin and carries the visit's form token, or it is refused before its handler.
"""
