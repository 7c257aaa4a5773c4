"""`python -m bench quality`: pictures of many kinds, enhanced by several methods and measured."""
