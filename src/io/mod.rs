//! One completion interface over epoll and io_uring. Imports base, sys.
