// Found only where libtorch's own header is not: see .cargo/config.toml. A missing
// include ends the compiler at once, where #error would let it go on.
#include "libtorch is not set up: type cargo x setup"
