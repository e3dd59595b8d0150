"""The Flower app of make flower-demo: a small regression, trained through both of
Flower's client APIs, whose clients send all that they know wherever they can. Named
app, they are protected; named unprotected, they show what would have left.
"""
