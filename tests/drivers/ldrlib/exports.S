// Forwarders: to the kernel by a name, to this image itself, in a circle, to nowhere.
    .section .drectve, "yn"
    .ascii " -export:LdrLibLower=HAL.KeGetCurrentIrql"
    .ascii " -export:LdrLibSum=ldrlib.LdrLibAdd"
    .ascii " -export:LdrLibCircle=ldrlib.LdrLibCircle"
    .ascii " -export:LdrLibNowhere=nobody.Nothing"
