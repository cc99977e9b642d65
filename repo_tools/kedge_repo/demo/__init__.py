"""The main job, played through on one machine: ceremony, verified keys, a rotation, and mirrors that lie.

:mod:`kedge_repo.demo.story` tells it, :mod:`kedge_repo.demo.cast` are the people in it, :mod:`kedge_repo.demo.mirror`
is the loopback server, :mod:`kedge_repo.demo.facts` holds npm's real signature. Everything goes through the same
functions as the commands; keys are made afresh, and nothing leaves the machine.
"""
