"""Update services, roll back, resume."""
