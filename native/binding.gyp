{
  # The build without CMake: node-gyp rebuild --directory native. The same sources and flags as CMakeLists.txt.
  "variables": {
    "kernels": ["<!@(node -p \"require('fs').readdirSync('cpu').filter(f => f.endsWith('.cpp') && !['allocator.cpp', 'dispatch.cpp', 'thread_pool.cpp'].includes(f)).map(f => 'cpu/' + f).join(' ')\")", "bench/multiply_adds.cpp", "image/resample.cpp"],
    "x86": "<!(node -p \"process.arch === 'x64' ? 1 : 0\")"
  },
  "target_defaults": {
    "default_configuration": "Release",
    "include_dirs": ["."],
    "defines": ["QM_X86=<(x86)", "QM_SANITIZED=0", "QM_COMPILER=\"node-gyp\""],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", "-ffp-contract=off",
                  "-fno-math-errno", "-fno-trapping-math"],
    "xcode_settings": {
      "GCC_ENABLE_CPP_EXCEPTIONS": "YES",
      "GCC_SYMBOLS_PRIVATE_EXTERN": "YES",
      "CLANG_CXX_LANGUAGE_STANDARD": "c++17",
      "OTHER_CPLUSPLUSFLAGS": ["-O3", "-Wno-psabi", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
    }
  },
  "targets": [
    {
      "target_name": "kernels_baseline",
      "type": "static_library",
      "standalone_static_library": 1,
      "sources": ["<@(kernels)"],
      "defines": ["QM_ISA=baseline"]
    },
    {
      "target_name": "quadmamba",
      "sources": [
        "<!@(node -p \"['core', 'binding'].flatMap(d => require('fs').readdirSync(d).filter(f => f.endsWith('.cpp')).map(f => d + '/' + f)).join(' ')\")",
        "bench/bench.cpp", "image/dispatch.cpp", "image/jpeg.cpp", "image/mapping.cpp", "cpu/allocator.cpp", "cpu/dispatch.cpp", "cpu/thread_pool.cpp"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")", "<!(node -p \"require('node-api-headers').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS_ALL"],
      "dependencies": ["kernels_baseline"],
      "conditions": [
        ["OS=='linux'", { "libraries": ["-ldl"] }],
        ["x86==1", { "dependencies": ["kernels_avx2", "kernels_avx512"] }]
      ]
    }
  ],
  "conditions": [
    ["x86==1", {
      "targets": [
        {
          "target_name": "kernels_avx2",
          "type": "static_library",
          "standalone_static_library": 1,
          "sources": ["<@(kernels)"],
          "defines": ["QM_ISA=avx2"],
          "cflags_cc": ["-mavx2", "-mfma"],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx2", "-mfma"] }
        },
        {
          "target_name": "kernels_avx512",
          "type": "static_library",
          "standalone_static_library": 1,
          "sources": ["<@(kernels)"],
          "defines": ["QM_ISA=avx512"],
          "cflags_cc": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
          "xcode_settings": { "OTHER_CPLUSPLUSFLAGS": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"] }
        }
      ]
    }]
  ]
}
