;; What the scripts of others test only together with streams, which plugins do without:
;; `post-return` gets what was returned, runs once for each call, and may not call out.

(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 16) "vox")
    (global $freed (mut i32) (i32.const 0))
    (func (export "name") (result i32)
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 3))
      (i32.const 0))
    (func (export "free") (param i32)
      (if (i32.ne (local.get 0) (i32.const 0)) (then unreachable))
      (global.set $freed (i32.add (global.get $freed) (i32.const 1))))
    (func (export "freed") (result i32) (global.get $freed)))
  (core instance $i (instantiate $m))
  (func (export "name") (result string)
    (canon lift (core func $i "name") (memory $i "memory") (post-return (func $i "free"))))
  (func (export "freed") (result u32) (canon lift (core func $i "freed"))))

(assert_return (invoke "freed") (u32.const 0))
(assert_return (invoke "name") (str.const "vox"))
(assert_return (invoke "freed") (u32.const 1))
(assert_return (invoke "name") (str.const "vox"))
(assert_return (invoke "freed") (u32.const 2))

(component definition $calls-out
  (import "host-return-two" (func $two (result u32)))
  (core func $two (canon lower (func $two)))
  (core module $m
    (import "" "two" (func $two (result i32)))
    (func (export "answer") (result i32) (call $two))
    (func (export "free") (param i32) (drop (call $two))))
  (core instance $i (instantiate $m (with "" (instance (export "two" (func $two))))))
  (func (export "answer") (result u32) (canon lift (core func $i "answer")))
  (func (export "answer-and-call") (result u32)
    (canon lift (core func $i "answer") (post-return (func $i "free")))))

(component instance $one $calls-out)
(assert_return (invoke "answer") (u32.const 2))
(assert_trap (invoke "answer-and-call") "cannot leave component instance")
;; A trapped instance is never entered again.
(assert_trap (invoke "answer") "cannot enter component instance")

(component
  (core module $m
    (func (export "answer") (result i32) (i32.const 7))
    (func (export "free") (param i32) unreachable))
  (core instance $i (instantiate $m))
  (func (export "answer") (result u32)
    (canon lift (core func $i "answer") (post-return (func $i "free")))))
(assert_trap (invoke "answer") "unreachable")
