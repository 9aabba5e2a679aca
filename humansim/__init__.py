"""humansim: which image model judges similarity as people do, and what makes it better at it?"""

__version__ = "0.1.0"
