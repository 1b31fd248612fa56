//! The `dpg-bench` binary: hands the arguments to the library and its exit status to the shell.

fn main() -> std::process::ExitCode {
    dpg_bench::cli::main()
}
