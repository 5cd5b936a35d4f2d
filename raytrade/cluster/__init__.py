"""Machines for Ray: the node provider of `ray up` for hosts that are already there. Apart from everything else."""
