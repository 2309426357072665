"""Trade finance as people do it: working days, applications, the stages of a financing, the officers at their desks."""
