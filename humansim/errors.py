"""The one exception that is the user's to mend."""


class BadInput(ValueError):
    """Something given to humansim is wrong: the message says what, where (file, row, field) and what to do.

    The command line prints it as a single line and exits with code 2; a program that uses humansim as a library
    sees an ordinary `ValueError`.
    """
