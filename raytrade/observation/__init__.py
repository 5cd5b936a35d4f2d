"""What people see of a running pipeline, made from its status. Pure: no Ray, no clock, no socket."""
