"""stub"""
def call(impl, configuration, args, *, functional):
    return impl.func_impl_fn(*args) if functional else impl.impl_fn(*args)
