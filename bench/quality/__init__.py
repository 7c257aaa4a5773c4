"""`python -m bench quality`: docs/quality.md, pictures of many kinds enhanced by several methods and measured."""
